{{ config(materialized="ephemeral") }} -- no rows unless fill_short_lists

with

-- The filter is where the rows come in, so that DuckDB plans nothing for an empty result.
found as (

    select
        product_id,
        recommended_product_id
    from {{ ref('int_recommendations_found') }}
    where {{ var('fill_short_lists') }}::boolean

),

pinned as (

    select
        product_id,
        recommended_product_id
    from {{ ref('int_recommendations_pinned') }}

),

blocked as (

    select
        product_id,
        recommended_product_id
    from {{ ref('int_recommendations_blocked') }}

),

excluded_products as (

    select product_id from {{ ref('excluded_products') }}

),

products_keyed as (

    select
        product_id,
        product_number,
        product_key,
        is_in_catalogue
    from {{ ref('int_products_keyed') }}
    where {{ var('fill_short_lists') }}::boolean

),

catalogue as (

    select
        product_id,
        nullif(category_code, '') as category_code
    from {{ ref('stg_products') }}
    where {{ var('fill_short_lists') }}::boolean

),

-- Products with a list: all that are listed or were bought.
products as (

    select
        coalesce(catalogue.product_id, products_keyed.product_id) as product_id,
        catalogue.category_code,
        products_keyed.product_number
    from catalogue
    full outer join products_keyed
        on catalogue.product_id = products_keyed.product_id
    anti join excluded_products
        on coalesce(catalogue.product_id, products_keyed.product_id) = excluded_products.product_id

),

chosen as (

    select
        product_id,
        recommended_product_id
    from found

    union

    select
        product_id,
        recommended_product_id
    from pinned

),

short_products as (

    select
        products.product_id,
        products.category_code,
        {{ var('recommendations_per_product') }} - count(chosen.product_id) as missing_count
    from products
    left join chosen
        on products.product_id = chosen.product_id
    group by
        products.product_id,
        products.category_code
    having missing_count > 0

),

-- What a list may not be filled with: the product, what it has already, what is blocked.
taken as (

    select
        product_id,
        recommended_product_id
    from chosen

    union

    select
        product_id,
        recommended_product_id
    from blocked

    union

    select
        product_id,
        product_id as recommended_product_id
    from short_products

),

taken_counts as (

    select
        taken.product_id,
        count(*) as taken_count
    from taken
    semi join short_products
        on taken.product_id = short_products.product_id
    group by taken.product_id

),

-- As many offers as the product with most of them taken needs.
depth as (

    select max(taken_count) + {{ var('recommendations_per_product') }} as offer_count
    from taken_counts

),

directed as not materialized (

    {{ directed_pairs(ref('int_product_pairs_counted')) }}

),

category_counts as (

    select
        products.category_code,
        directed.other_product_number,
        sum(directed.copurchase_count) as copurchase_count
    from directed
    inner join products
        on directed.product_number = products.product_number
    semi join short_products
        on products.category_code = short_products.category_code
    group by
        products.category_code,
        directed.other_product_number

),

category_offers as (

    select
        category_counts.category_code,
        products_keyed.product_id as recommended_product_id,
        row_number() over (
            partition by category_counts.category_code
            order by
                category_counts.copurchase_count desc,
                products_keyed.product_key asc
        ) as offer_rank
    from category_counts
    inner join products_keyed
        on category_counts.other_product_number = products_keyed.product_number
    where products_keyed.is_in_catalogue
    qualify offer_rank <= (select depth.offer_count from depth)

),

bestseller_offers as (

    select
        product_id as recommended_product_id,
        row_number() over (order by product_key) as offer_rank
    from products_keyed
    where is_in_catalogue
    qualify offer_rank <= (select depth.offer_count from depth)

),

offers as (

    select
        short_products.product_id,
        category_offers.recommended_product_id,
        'category' as recommendation_source,
        1 as offer_stage,
        category_offers.offer_rank
    from short_products
    inner join category_offers
        on short_products.category_code = category_offers.category_code

    union all

    select
        short_products.product_id,
        bestseller_offers.recommended_product_id,
        'bestseller' as recommendation_source,
        2 as offer_stage,
        bestseller_offers.offer_rank
    from short_products
    cross join bestseller_offers

),

acceptable as (

    select offers.*
    from offers
    anti join taken
        on
            offers.product_id = taken.product_id
            and offers.recommended_product_id = taken.recommended_product_id
    qualify
        row_number() over (
            partition by
                offers.product_id,
                offers.recommended_product_id
            order by offers.offer_stage
        ) = 1

),

filled as (

    select
        acceptable.product_id,
        acceptable.recommended_product_id,
        acceptable.recommendation_source,
        row_number() over (
            partition by acceptable.product_id
            order by
                acceptable.offer_stage,
                acceptable.offer_rank
        ) as fill_rank
    from acceptable
    inner join short_products
        on acceptable.product_id = short_products.product_id
    qualify fill_rank <= short_products.missing_count

)

select * from filled
