with

line_items as (

    select order_id
    from {{ ref('int_line_items_kept') }}
    where change >= 0

),

dates as (

    select
        order_id,
        max(ordered_at) as ordered_at
    from {{ ref('stg_line_items') }}
    group by order_id

),

baskets as (

    select distinct order_id from line_items

),

ordered as (

    select
        baskets.order_id,
        dates.ordered_at is not null as is_dated,
        row_number()
            over (order by dates.ordered_at asc nulls last, baskets.order_id asc)
            as date_place,
        row_number() over (order by baskets.order_id asc) as place,
        count(*) over () as basket_count,
        count(dates.ordered_at) over () as dated_basket_count
    from baskets
    inner join dates
        on baskets.order_id = dates.order_id

),

-- Split by time, as the lists will be used; without dates, evenly over the files.
split as (

    select
        order_id,
        case
            when 10 * dated_basket_count >= 9 * basket_count
                then
                    is_dated
                    and date_place > dated_basket_count
                    - floor(dated_basket_count * {{ var('evaluation_test_share') }})
            else place % round(1 / {{ var('evaluation_test_share') }})::bigint = 0
        end as is_test
    from ordered

)

select * from split
