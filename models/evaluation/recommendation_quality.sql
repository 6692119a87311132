with

baskets_scored as (

    select
        rule,
        order_id,
        seed_count,
        hit_rate,
        mean_reciprocal_rank
    from {{ ref('int_evaluation_baskets_scored') }}

),

lists as (

    select
        rule,
        recommended_product_number
    from {{ ref('int_evaluation_lists') }}

),

products as (

    select
        product_number,
        product_key
    from {{ ref('int_evaluation_products_keyed') }}
    where basket_count > 0

),

product_counts as (

    select count(*) as product_count
    from products

),

-- By basket, since baskets differ more than rules do.
compared as (

    select
        baskets_scored.rule,
        baskets_scored.seed_count,
        baskets_scored.hit_rate,
        baskets_scored.hit_rate - counted.hit_rate as difference,
        baskets_scored.mean_reciprocal_rank
    from baskets_scored
    inner join baskets_scored as counted
        on
            baskets_scored.order_id = counted.order_id
            and counted.rule = 'count'

),

averaged as (

    select
        rule,
        count(*) as baskets,
        sum(seed_count)::bigint as seeds,
        avg(hit_rate) as hit_rate,
        1.96 * stddev_samp(hit_rate) / sqrt(count(*)) as hit_rate_margin,
        avg(difference) as difference_to_count,
        1.96 * stddev_samp(difference) / sqrt(count(*)) as difference_margin,
        avg(mean_reciprocal_rank) as mean_reciprocal_rank
    from compared
    group by rule

),

spread as (

    select
        lists.rule,
        count(distinct lists.recommended_product_number) as recommended_product_count,
        count(*) as slot_count,
        count(*) filter (
            where products.product_key <= ceil(product_counts.product_count / 100)
        ) as best_seller_slot_count
    from lists
    inner join products
        on lists.recommended_product_number = products.product_number
    cross join product_counts
    group by lists.rule

),

quality as (

    select
        averaged.rule,
        averaged.baskets,
        averaged.seeds,
        averaged.hit_rate,
        averaged.hit_rate - averaged.hit_rate_margin as hit_rate_low,
        averaged.hit_rate + averaged.hit_rate_margin as hit_rate_high,
        averaged.difference_to_count,
        averaged.difference_to_count - averaged.difference_margin as difference_low,
        averaged.difference_to_count + averaged.difference_margin as difference_high,
        averaged.mean_reciprocal_rank,
        coalesce(spread.recommended_product_count, 0) / product_counts.product_count as coverage,
        spread.best_seller_slot_count / spread.slot_count as top_one_percent_share
    from averaged
    cross join product_counts
    left join spread
        on averaged.rule = spread.rule

)

select * from quality
