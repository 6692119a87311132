{{ config(severity = 'warn') }}

with

sizes as (

    select
        product_count,
        sum(basket_count) as basket_count
    from {{ ref('int_baskets_sized') }}
    group by product_count

),

ranked as (

    select
        product_count::bigint * (product_count - 1) // 2 as pair_occurrences_each,
        basket_count,
        sum(basket_count) over (order by product_count desc) as rank_of_last,
        sum(basket_count) over () // 1000 as last_rank_of_largest
    from sizes

),

-- Of the size that the largest 0.1 % end in, some baskets belong to them and others do not.
divided as (

    select
        pair_occurrences_each,
        basket_count,
        greatest(
            0, basket_count - greatest(0, rank_of_last - last_rank_of_largest)
        ) as largest_basket_count
    from ranked

),

largest as (

    select
        sum(largest_basket_count * pair_occurrences_each)
        / nullif(sum(basket_count * pair_occurrences_each), 0) as share_of_pair_occurrences
    from divided

)

select * from largest
where share_of_pair_occurrences > {{ var('largest_baskets_share_warned') }}
